package tilestream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestWhiteSpaceAroundATokenIsNotSent(t *testing.T) {
	fake := &fakeServer{}
	token := func(context.Context) (string, error) { return " abc.def-1~\r\n", nil }
	client := serve(t, fake, &Options{TokenSource: token})
	session, err := client.Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	session.Close()
	if got := fake.headers[0].Get("authorization"); !slices.Equal(got, []string{"Bearer abc.def-1~"}) {
		t.Error(got)
	}
}

func TestTokensThatCannotBeSent(t *testing.T) {
	for token, problem := range map[string]string{
		"":                "empty",
		" \n":             "nothing but white space",
		"secret\nvalue":   "character 7 of 12 is white space",
		"  secret\tvalue": "character 9 of 14 is white space",
		"secr\x00et":      "character 5 of 7 is a control or non-ASCII character",
		"secrët":          "character 5 of 6 is a control or non-ASCII character",
		"secr\xffet":      "character 5 of 7 is a control or non-ASCII character",
	} {
		client := serve(t, &fakeServer{}, &Options{TokenSource: func(context.Context) (string, error) { return token, nil }})
		_, asked := client.Info(t.Context())
		_, opened := client.Open(t.Context(), nil)
		for _, err := range []error{asked, opened} {
			var refused *InvalidConfigError
			if !errors.As(err, &refused) || refused.Fields[0].Field != "token" || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "secr") {
				t.Errorf("%q: %v", token, err)
			}
		}
	}
}
