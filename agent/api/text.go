package api

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable is what the host shows of a text of the guest's, which may be anything:
// at most most bytes, without characters that a terminal or a log acts on.
func Printable(text string, most int) string {
	if len(text) > most {
		for most > 0 && !utf8.RuneStart(text[most]) {
			most-- // not in the middle of a character
		}
		text = text[:most]
	}
	return strings.Map(printable, text)
}

func printable(r rune) rune {
	switch {
	case r == '\t' || r == '\n':
		return ' '
	case r == utf8.RuneError || !unicode.IsPrint(r):
		return '?'
	}
	return r
}
