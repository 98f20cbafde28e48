// Which view is shown, and the look at the server once a second. Nothing is asked for while nobody looks.

import * as api from "./api.js";
import { Camera } from "./camera.js";
import { write } from "./dom.js";
import { nameOf } from "./figures.js";
import { History } from "./history.js";
import { Overview } from "./overview.js";

const EVERY = 1000; // milliseconds
const SAID = 8000; // milliseconds that a message stays

const at = (id) => document.getElementById(id);
const history = new History();
let server = null; // what the server is
let live = null; // how it was doing at the last look
let view = null;
let lookNow = () => {};
let fading = null; // the timer that takes the message away

function notice(text) {
  clearTimeout(fading);
  write(at("notice"), text);
  fading = setTimeout(() => write(at("notice"), ""), SAID);
}

/** Something could not be had. */
function refused(error) {
  if (!(error instanceof api.Refused)) {
    console.error(error);
    notice("Something went wrong in this page; its console says what.");
  } else if (error.status === 401) {
    ask(api.hasToken() ? error.message : "");
  } else if (error.status !== 404) {
    notice(error.message);
  }
}

/** Ask who is there. */
function ask(message) {
  server = live = null;
  view?.close();
  view = null;
  at("view").replaceChildren();
  const before = at("login").hidden;
  at("login").hidden = false;
  write(at("refusal"), message);
  at("forget").hidden = true;
  if (before) at("token").focus();
}

/** Show what the address names. */
function route(byPerson) {
  if (location.hash && !location.hash.startsWith("#/")) return; // the link that skips to the content
  if (server === null) return;
  view?.close();
  const [, kind, session] = location.hash.split("/");
  view = kind === "camera" ? new Camera(session ?? "", server, refused) : new Overview(server);
  at("view").replaceChildren(view.element);
  if (live) view.show(live, history);
  document.title = `${view.title} · tilestream`;
  if (byPerson) {
    scrollTo(0, 0);
    view.heading.focus({ preventScroll: true });
  }
}

async function look() {
  if (server === null) {
    server = await api.server();
    at("login").hidden = true;
    at("forget").hidden = !api.hasToken();
    const who = server.identity ? ` · ${server.identity}` : "";
    write(at("server"), `${server.version} · ${server.device} · ${server.precision}${who}`);
    route(false);
  }
  const before = live?.sessions ?? [];
  const next = await api.live();
  if (live && next.up_seconds < live.up_seconds) server = null; // it was started again, perhaps with other models
  live = next;
  history.add(live.sessions);
  view?.show(live, history);
  if (view) document.title = `${view.title} · tilestream`;
  const there = new Set(live.sessions.map((row) => row.session));
  const gone = before.filter((row) => !there.has(row.session));
  if (gone.length)
    notice(gone.length === 1 ? `${nameOf(gone[0])} is gone.` : `${gone.length} cameras are gone.`);
}

async function run() {
  for (;;) {
    let wait = EVERY;
    if (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
      continue;
    }
    try {
      if (at("login").hidden || api.hasToken()) await look();
    } catch (error) {
      refused(error);
      if (error.status === 401) api.keepToken("");
      wait = 1000 * Math.max(1, error.retrySeconds ?? 2);
    }
    await new Promise((resolve) => {
      lookNow = resolve;
      setTimeout(resolve, wait);
    });
  }
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  api.keepToken(at("token").value.trim());
  at("token").value = "";
  lookNow();
});
at("forget").addEventListener("click", () => {
  api.keepToken("");
  ask("");
});
addEventListener("hashchange", () => route(true));
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view instanceof Camera) location.hash = "#/";
});
run();
