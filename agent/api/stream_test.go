package api

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestStreamRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := OpenStream(&b, "c-1.stdout"); err != nil {
		t.Fatal(err)
	}
	b.WriteString("payload")
	id, err := ReadStreamID(&b)
	if err != nil || id != "c-1.stdout" {
		t.Fatalf("got %q, %v", id, err)
	}
	if rest, _ := io.ReadAll(&b); string(rest) != "payload" {
		t.Errorf("bytes behind the line: got %q", rest)
	}
}

func TestStreamURLs(t *testing.T) {
	for url, plain := range map[string]bool{StreamURL("a"): false, PlainStreamURL("a"): true} {
		if id, err := ParseStreamURL(url); id != "a" || err != nil || HasPlainNewlines(url) != plain {
			t.Errorf("%s: %q %v", url, id, err)
		}
	}
	if _, err := ParseStreamURL(StreamURL("a?newlines=odd")); !errors.Is(err, ErrStreamID) {
		t.Error(err)
	}
}

func TestStreamRefused(t *testing.T) {
	long := strings.Repeat("x", MaxStreamID+1)
	for _, id := range []string{"", "a b", "a/b", "ä", "a\n", long} {
		if err := OpenStream(io.Discard, id); !errors.Is(err, ErrStreamID) {
			t.Errorf("open %q: got %v", id, err)
		}
		if _, err := ParseStreamURL(StreamURL(id)); !errors.Is(err, ErrStreamID) {
			t.Errorf("parse %q: got %v", id, err)
		}
	}
	for _, line := range []string{"", "STREAM ", "STREAM \n", "stream a\n", "STREAM a", "STREAM " + long + "\n", strings.Repeat("y", 1<<20)} {
		if id, err := ReadStreamID(strings.NewReader(line)); err == nil {
			t.Errorf("read %.20q: got id %q", line, id)
		}
	}
}

func TestStreamLongest(t *testing.T) {
	id := strings.Repeat("x", MaxStreamID)
	got, err := ReadStreamID(strings.NewReader("STREAM " + id + "\n"))
	if err != nil || got != id {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzReadStreamID(f *testing.F) {
	f.Add([]byte("STREAM a.stdin\nrest"))
	f.Fuzz(func(t *testing.T, p []byte) {
		id, err := ReadStreamID(bytes.NewReader(p))
		if err == nil && !validStreamID(id) {
			t.Errorf("accepted %q", id)
		}
	})
}
