package main

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable is text as it may be shown in a line: what is not printable is escaped, so that nothing that comes from
// elsewhere (a server's words, the name of a file) can steer a terminal or look like another line.
func printable(text string) string {
	var shown strings.Builder
	for _, char := range strings.ToValidUTF8(text, string(utf8.RuneError)) {
		if strconv.IsPrint(char) {
			shown.WriteRune(char)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(char)
		shown.WriteString(quoted[1 : len(quoted)-1])
	}
	return shown.String()
}
