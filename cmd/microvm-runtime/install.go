package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/config"
	"github.com/microvm/microvm/runtime/install"
)

var (
	prefixFlag = &cli.StringFlag{Name: "prefix", Value: "/usr/local", Usage: "`directory` with bin and lib"}
	dryRunFlag = &cli.BoolFlag{Name: "dry-run", Usage: "only say what would be done"}
)

func installCommand() *cli.Command {
	return &cli.Command{
		Name:  "install",
		Usage: "put the runtime in place and tell containerd of it",
		Description: `The files are those beside this program, as "make build" leaves them.
containerd's configuration is only changed if containerd itself says that it
has the runtime then, and that all else is as it was. "uninstall" undoes it.`,
		Flags: []cli.Flag{
			prefixFlag, dryRunFlag,
			&cli.BoolFlag{Name: "no-containerd", Usage: "leave containerd's configuration alone (as where there is no containerd)"},
			&cli.StringFlag{Name: "containerd-config", Value: "/etc/containerd/config.toml", Usage: "containerd's configuration `file`"},
			&cli.BoolFlag{Name: "docker", Usage: "tell docker, too"},
			&cli.StringFlag{Name: "docker-config", Value: "/etc/docker/daemon.json", Usage: "docker's configuration `file`"},
			&cli.BoolFlag{Name: "podman", Usage: "tell podman, too"},
			&cli.StringFlag{Name: "podman-config", Value: "/etc/containers/containers.conf.d/microvm.conf", Usage: "`file` of podman's configuration to write"},
		},
		Before:       arguments(0, 0),
		OnUsageError: badFlag,
		Action:       installFiles,
	}
}

func installFiles(c *cli.Context) error {
	o, err := installOptions(c)
	if err != nil {
		return err
	}
	plan, err := install.Prepare(c.Context, o)
	if err != nil {
		return err
	}
	for _, f := range plan.Files {
		fmt.Fprintf(c.App.Writer, "write %s\n", f.Path)
	}
	if !c.Bool("dry-run") {
		if err := plan.Apply(); err != nil {
			return err
		}
	}
	for _, n := range plan.Notes {
		fmt.Fprintln(c.App.Writer, n)
	}
	return nil
}

// installOptions finds the files to install, beside this program first.
func installOptions(c *cli.Context) (o install.Options, err error) {
	if o.Prefix, err = filepath.Abs(c.String("prefix")); err != nil {
		return o, err
	}
	exe, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("find own program: %w", err)
	}
	parts := config.Config{}.Locate(filepath.Dir(exe))
	for _, a := range []config.Artifact{parts.Kernel, parts.Initramfs, parts.VMM, parts.Network} {
		if a.Err != nil {
			return o, a.Err
		}
		o.Parts = append(o.Parts, a.Path)
	}
	o.Binaries = []string{exe, filepath.Join(filepath.Dir(exe), "containerd-shim-microvm-v1")}
	if _, err := exec.LookPath("containerd"); err == nil && !c.Bool("no-containerd") {
		o.Containerd = c.String("containerd-config")
	}
	for flag, path := range map[string]*string{"docker": &o.Docker, "podman": &o.Podman} {
		if c.Bool(flag) {
			*path = c.String(flag + "-config")
		}
	}
	return o, nil
}

func uninstallCommand() *cli.Command {
	return &cli.Command{
		Name:         "uninstall",
		Usage:        "undo what install has done",
		Flags:        []cli.Flag{prefixFlag, dryRunFlag},
		Before:       arguments(0, 0),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			prefix, err := filepath.Abs(c.String("prefix"))
			if err != nil {
				return err
			}
			return install.Remove(prefix, c.Bool("dry-run"), func(step string) { fmt.Fprintln(c.App.Writer, step) })
		},
	}
}
