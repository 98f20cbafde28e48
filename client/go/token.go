package tilestream

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkedToken is token without white space at its ends, as files and variables have. An *InvalidConfigError for one
// that cannot be sent tells the position of what is wrong, never what is there: a token is a secret, and errors are
// logged.
func checkedToken(token string) (string, error) {
	stripped := strings.TrimSpace(token)
	if stripped == "" {
		if token == "" {
			return "", tokenError("it is empty; without a TokenSource none is sent")
		}
		return "", tokenError("it is nothing but white space")
	}
	before := utf8.RuneCountInString(token[:strings.Index(token, stripped)])
	position := before
	for _, r := range stripped {
		position++
		switch {
		case r == ' ': // can be sent
		case unicode.IsSpace(r):
			return "", tokenError("character %d of %d is white space; allowed are printable ASCII characters", position, utf8.RuneCountInString(token))
		case r <= ' ' || r > '~':
			return "", tokenError("character %d of %d is a control or non-ASCII character; allowed are printable ASCII characters", position, utf8.RuneCountInString(token))
		}
	}
	return stripped, nil
}

func tokenError(format string, args ...any) error {
	problem := fmt.Sprintf(format, args...)
	return &InvalidConfigError{Failure{Message: "token: " + problem}, []FieldError{{"token", problem}}}
}
