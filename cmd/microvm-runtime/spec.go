package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/bundle"
)

func specCommand() *cli.Command {
	return &cli.Command{
		Name:  "spec",
		Usage: "create a new specification file",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "path to the root of the bundle directory"},
			&cli.BoolFlag{Name: "rootless", Usage: "generate a configuration for a rootless container"},
		},
		Before:       arguments(0, 0),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			return writeSpec(c.String("bundle"), c.Bool("rootless"))
		},
	}
}

func writeSpec(dir string, rootless bool) error {
	spec := bundle.Example()
	if rootless {
		spec = bundle.ExampleRootless()
	}
	data, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, bundle.ConfigFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		//lint:ignore ST1005 runc's words
		return fmt.Errorf("File %s exists. Remove it first", bundle.ConfigFile)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
