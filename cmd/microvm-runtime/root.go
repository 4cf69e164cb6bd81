package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/sys/userns"
	"github.com/urfave/cli/v2"
)

// defaultRoot is where state is kept unless --root says otherwise: for a user,
// in $XDG_RUNTIME_DIR.
func defaultRoot() string {
	if dir := userRuntimeDir(); dir != "" {
		return filepath.Join(dir, "microvm")
	}
	return "/run/microvm"
}

// userRuntimeDir is $XDG_RUNTIME_DIR, or "" for root. As for runc, who is root
// in a user namespace is root if called so.
func userRuntimeDir() string {
	if os.Geteuid() == 0 && (!userns.RunningInUserNS() || os.Getenv("USER") == "root") {
		return ""
	}
	return os.Getenv("XDG_RUNTIME_DIR")
}

// reviseRoot makes --root absolute and refuses nonsense.
func reviseRoot(c *cli.Context) error {
	if !c.IsSet("root") {
		if userRuntimeDir() == "" {
			return nil
		}
		return keepRoot(c.String("root"))
	}
	root, err := filepath.Abs(c.String("root"))
	if err != nil {
		return err
	}
	if root == "/" {
		//lint:ignore ST1005 runc's words
		return errors.New("Option --root argument should not be set to /")
	}
	return c.Set("root", root)
}

// keepRoot makes the directory root with a sticky bit, without which what
// cleans $XDG_RUNTIME_DIR up may remove it (XDG Base Directory Specification).
func keepRoot(root string) error {
	err := os.MkdirAll(root, 0o700)
	if err == nil {
		err = os.Chmod(root, 0o700|os.ModeSticky)
	}
	if err != nil {
		return fmt.Errorf("make a directory for state in $XDG_RUNTIME_DIR, which must be writable: %w", err)
	}
	return nil
}
