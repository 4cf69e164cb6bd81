package main

import (
	"encoding/json"

	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/bundle"
)

func featuresCommand() *cli.Command {
	return &cli.Command{
		Name:         "features",
		Usage:        "show the enabled features",
		Description:  "The result is parsable as JSON, see https://github.com/opencontainers/runtime-spec/blob/main/features.md.",
		Before:       arguments(0, 0),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			enc := json.NewEncoder(c.App.Writer)
			enc.SetIndent("", "    ")
			return enc.Encode(bundle.Features(version))
		},
	}
}
