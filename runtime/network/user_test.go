package network

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// spawnScript starts a script in place of microvm-network.
func spawnScript(t *testing.T, script string) (*User, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "network")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	u := &User{Path: path, Log: logrus.NewEntry(logrus.New())}
	u.Log.Logger.SetOutput(new(bytes.Buffer))
	err = u.spawn(null)
	t.Cleanup(func() {
		if err := u.Stop(); err != nil {
			t.Error(err)
		}
	})
	return u, err
}

// TestTalkativeNetwork has the process say things without end: they are read, and not
// kept.
func TestTalkativeNetwork(t *testing.T) {
	done := filepath.Join(t.TempDir(), "done")
	u, err := spawnScript(t, "echo >&4; /bin/head -c 10000000 /dev/zero >&2; echo >"+done+"; exec /bin/sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(done); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nobody reads what it says")
		}
	}
	if err := u.Stop(); err != nil { // nobody writes to it any more
		t.Error(err)
	}
	if n := u.said.text.Cap(); n > 4*mostWords {
		t.Errorf("%d bytes of what it said are kept", n)
	}
}

// TestNetworkThatDoesNotStart says why, in words that can be shown.
func TestNetworkThatDoesNotStart(t *testing.T) {
	_, err := spawnScript(t, `printf 'no \033[2Jport\n' >&2; exit 1`)
	if err == nil || !strings.Contains(err.Error(), "port") || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("%q", err)
	}
}

// TestNetworkThatEnds is told of a process that ends while its guest lives, with the
// cause, and not of one that is stopped.
func TestNetworkThatEnds(t *testing.T) {
	for script, want := range map[string]string{
		"echo >&4; echo no memory >&2; exit 1": "no memory",
		"echo >&4; exec sleep 1000":            "",
		"echo >&4":                             "",
	} {
		u, err := spawnScript(t, script)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(script, "sleep") {
			<-u.ended
		}
		if err := u.Stop(); err != nil {
			t.Error(err)
		}
		if got := told(u); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	u, err := spawnScript(t, "echo >&4; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(u.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-u.ended
	if got := told(u); !strings.Contains(got, "killed") {
		t.Errorf("of a process that is killed: %q", got)
	}
}

func told(u *User) string { return u.Log.Logger.Out.(*bytes.Buffer).String() }
