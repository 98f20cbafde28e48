// Elements without markup in strings: the page's policy does not let any string become an element.

/** An element; properties by their names, `class`, `role`, `for`, `aria-*` and the like as attributes. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element && !key.includes("-")) element[key] = value;
    else element.setAttribute(key === "className" ? "class" : key, value);
  }
  element.append(...children);
  return element;
}

/** Set the text, where it is another one: what does not change is not announced, selected text stays. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** An element of SVG. */
export function svg(name, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
