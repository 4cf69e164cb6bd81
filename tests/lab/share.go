package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// ErrNoVirtiofsd says that the host has no virtiofsd.
var ErrNoVirtiofsd = errors.New("no virtiofsd: run `lab deps`")

// virtiofsd is one of the two servers that Debian has had.
type virtiofsd struct {
	path string
	// args are the arguments for a directory to share, with "always" or "auto"
	// as the guest's trust in its cache.
	args func(dir, cache string) []string
}

var virtiofsds = []virtiofsd{
	// Debian 13 and later: package virtiofsd, in Rust. An overlay refuses to go
	// through mount points that it announces.
	{"/usr/libexec/virtiofsd", func(dir, cache string) []string {
		return []string{"--shared-dir=" + dir, "--cache=" + cache, "--sandbox=chroot", "--xattr",
			"--no-announce-submounts", "--log-level=error"}
	}},
	// Debian 12: package qemu-system-common, in C.
	{"/usr/lib/qemu/virtiofsd", func(dir, cache string) []string {
		return []string{"-o", "source=" + dir, "-o", "cache=" + cache, "-o", "sandbox=chroot", "-o", "xattr", "-o", "log_level=err"}
	}},
}

func findVirtiofsd() (virtiofsd, error) {
	for _, server := range virtiofsds {
		if exists(server.path) {
			return server, nil
		}
	}
	return virtiofsd{}, ErrNoVirtiofsd
}

// share is a directory that a virtiofsd offers to the guest under a tag.
type share struct {
	tag    string
	socket *os.File // for QEMU: already connected to the server
	server *child
}

// startShare starts a server for dir. Its messages go to log.
func startShare(tag, dir, cache string, log io.Writer) (*share, error) {
	program, err := findVirtiofsd()
	if err != nil {
		return nil, err
	}
	listener, connection, err := listenAndConnect("share " + tag)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	cmd := exec.Command(program.path, program.args(dir, cache)...)
	cmd.Args = append(cmd.Args, fmt.Sprintf("--fd=%d", passFile(cmd, listener)))
	cmd.Stdout, cmd.Stderr = log, log
	server, err := startChild(cmd)
	if err != nil {
		connection.Close()
		return nil, err
	}
	return &share{tag: tag, socket: connection, server: server}, nil
}

// close ends the server and waits for it.
func (s *share) close() {
	s.socket.Close()
	s.server.kill()
}
