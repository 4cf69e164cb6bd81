package control

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func pair(t *testing.T) (*Conn, *Conn) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestMessageCarriesDescriptors(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Send(Request{Seq: 7, Op: OpAddExport, Export: &Export{Name: "x"}}, w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var req Request
	files, err := b.Receive(&req)
	if err != nil || len(files) != 1 || req.Seq != 7 || req.Export.Name != "x" {
		t.Fatal(err, files, req)
	}
	if _, err := files[0].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	files[0].Close()
	if got, _ := io.ReadAll(r); string(got) != "through" {
		t.Fatalf("got %q", got)
	}
}

func TestCloseIsSeenAsEOF(t *testing.T) {
	a, b := pair(t)
	a.Close()
	if _, err := b.Receive(&Request{}); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestConfigWithUnknownFieldIsRefused(t *testing.T) {
	if _, err := ReadConfig(strings.NewReader(`{"id":"a","kernle":3}`)); err == nil || !strings.Contains(err.Error(), "kernle") {
		t.Fatal(err)
	}
}
