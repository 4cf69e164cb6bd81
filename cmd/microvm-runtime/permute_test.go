package main

import (
	"strings"
	"testing"
)

func TestOptionsAfterArguments(t *testing.T) {
	for args, want := range map[string]string{
		"delete a --force":                   "delete --force a",
		"--debug --log x delete a -f":        "--debug --log x delete -f a",
		"update a --cpu-period 5 --memory=3": "update --cpu-period 5 --memory=3 a",
		"kill a -9":                          "kill a -9",
		"kill -a a KILL":                     "kill -a a KILL",
		"delete -- a --force":                "delete -- a --force",
		"run a --bundle":                     "run a --bundle",
		"run --bogus a -d":                   "run -d --bogus a",
		"exec a ls --force":                  "exec a ls --force",
		"ps a -f":                            "ps a -f",
		"state a --help":                     "state --help a",
		"--root":                             "--root",
		"":                                   "",
		"nothing a --force":                  "nothing a --force",
	} {
		got := permute(newApp(), append([]string{"microvm-runtime"}, strings.Fields(args)...))
		if s := strings.Join(got[1:], " "); s != want {
			t.Errorf("%s: %s, want %s", args, s, want)
		}
	}
}
