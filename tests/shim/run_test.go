package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/command"
)

func TestRun(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte("of the host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		script := `uname -r | grep -c microvm; echo $A; pwd; id -u; cat /one /etc/added /etc/replaced; ls /etc/removed 2>/dev/null; echo no 2>/dev/null >/one || echo refused; exit 7`
		s.run(s.container(), "--rm", "--env", "A=b c", "--cwd", "/var", "--mount", "type=bind,src="+file+",dst=/one,options=rbind:ro",
			"--", "sh", "-c", script).
			Wants(7, "1", "b c", "/var", "0", "of the host", "upper", "upper", "refused")
	})
}

// TestSnapshotters writes to two containers of one image.
func TestSnapshotters(t *testing.T) {
	for _, snapshotter := range []string{"overlayfs", "native"} {
		t.Run(snapshotter, func(t *testing.T) {
			each(t, func(t *testing.T, s *site) {
				first := s.detached("--snapshotter", snapshotter, "--", "sh", "-c", "echo mine >/etc/added; sleep 1000")
				s.run(s.container(), "--rm", "--snapshotter", snapshotter, "--", "sh", "-c",
					"cat /etc/added /etc/replaced; rm /etc/added; mkdir /etc/added; mv /etc/passwd /etc/added; ls /etc/added").
					Wants(0, "upper", "upper", "passwd")
				s.exec(first, "--", "cat", "/etc/added", "/etc/replaced").Wants(0, "mine", "upper")
			})
		})
	}
}

const missing = `exec: "nosuch": executable file not found in $PATH`

// TestMissingProgram wants runc's words.
func TestMissingProgram(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		if o := s.run(s.container(), "--rm", "--", "nosuch").Run(); o.Code == 0 || !strings.Contains(o.Stderr, missing) {
			t.Errorf("%v", o)
		}
	})
}

// TestOwnRoot runs a bundle whose root file system no snapshotter knows.
func TestOwnRoot(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		all := []string{"run", "--runtime", runtime, "--annotation", "io.microvm.machine=" + machine, "--fifo-dir", s.dir, "--rm", "--read-only", "--rootfs", rootfs, s.container(), "/bin/cat", "/etc/replaced"}
		s.do(all...).Wants(0, "lower")
	})
}

func TestConfiguration(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		file := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(file, []byte("memory = 200\ncpus = 2\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		script := `nproc; awk '/MemTotal/ {print ($2 < 204800 && $2 > 150000)}' /proc/meminfo`
		s.run(s.container(), "--rm", "--runtime-config-path", file, "--", "sh", "-c", script).Wants(0, "2", "1")
		missing := file + ".missing"
		if o := s.run(s.container(), "--rm", "--runtime-config-path", missing, "--", "true").Run(); o.Code == 0 || !strings.Contains(o.Stderr, missing) {
			t.Errorf("a configuration that is not there: %v", o)
		}
	})
}

// TestMany starts containers at once.
func TestMany(t *testing.T) {
	last(t, func(t *testing.T, s *site) {
		const many = 6
		outcomes := make(chan command.Outcome, many)
		for range many {
			c := s.run(s.container(), "--rm", "--", "sh", "-c", "cat /etc/added; exit 3")
			go func() { outcomes <- c.Run() }()
		}
		for range many {
			if o := <-outcomes; o.Code != 3 || o.Stdout != "upper\n" {
				t.Errorf("%v", o)
			}
		}
	})
}
