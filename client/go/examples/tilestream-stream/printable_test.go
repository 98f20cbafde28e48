package main

import "testing"

func TestWhatIsNotPrintableIsEscaped(t *testing.T) {
	for text, shown := range map[string]string{
		"front [/gate 3] 北": "front [/gate 3] 北",
		"a\nb\x1b[2J":       `a\nb\x1b[2J`,
		"\u202eevil":        `\u202eevil`,
		"img_\xff.jpg":      "img_\ufffd.jpg",
	} {
		if printable(text) != shown {
			t.Errorf("%q is shown as %s", text, printable(text))
		}
	}
}
