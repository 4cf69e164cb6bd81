package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// events are of a package with a test of each outcome, and one that broke down.
const events = `{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestBad/one","Output":"    bad_test.go:7: bad\n"}
{"Action":"fail","Package":"p","Test":"TestBad/one"}
{"Action":"fail","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Test":"TestLess","Output":"    less_test.go:7: needs more\n"}
{"Action":"skip","Package":"p","Test":"TestLess"}
{"Action":"fail","Package":"p"}
{"Action":"output","Package":"q","Output":"panic: all over\n"}
{"Action":"fail","Package":"q"}
`

func collected(t *testing.T, text string) *result {
	t.Helper()
	res := newResult("suite")
	if err := res.collect(strings.NewReader(text), io.Discard); err != nil {
		t.Fatal(err)
	}
	return res
}

func TestOutcomesAreCounted(t *testing.T) {
	res := collected(t, events)
	for action, want := range map[string][]string{
		"pass": {"p TestGood"}, "fail": {"p TestBad/one", "p TestBad", "q"}, "skip": {"p TestLess"},
	} {
		if got := res.with(action); !slices.Equal(got, want) {
			t.Errorf("%s: %q", action, got)
		}
	}
	if res.good() {
		t.Error("a failure is good")
	}
	if reason := res.outcomes["p TestLess"].reason; reason != "less_test.go:7: needs more" {
		t.Errorf("skipped because of %q", reason)
	}
	if reason := res.outcomes["p TestBad/one"].reason; reason != "bad_test.go:7: bad" {
		t.Errorf("failed because of %q", reason)
	}
}

func TestFewFailuresAreRunAgain(t *testing.T) {
	res := collected(t, events)
	s := &suite{name: "suite"}
	if err := s.runAgain(res, "p", 0, func([]string) error { t.Error("too many are run again"); return nil }); err != nil {
		t.Error(err)
	}
	var ran []string
	if err := s.runAgain(res, "p", 1, func(names []string) error {
		ran = names
		res.set("p TestBad", outcome{action: "pass"})
		return nil
	}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(ran, []string{"TestBad"}) || !slices.Equal(res.again, []second{{"p TestBad", "bad_test.go:7: bad"}}) {
		t.Errorf("ran %q again: %q", ran, res.again)
	}
	if got := res.with("fail"); !slices.Equal(got, []string{"q"}) || len(res.order) != 4 {
		t.Errorf("%q of %q", got, res.order)
	}
}

func TestNothingIsNotGood(t *testing.T) {
	if collected(t, "").good() {
		t.Error("no test at all is good")
	}
}
