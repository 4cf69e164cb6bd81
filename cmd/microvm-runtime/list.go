package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/user"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/container"
)

const formatUsage = "select one of: table or json"

func listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "lists containers started by microvm-runtime with the given root",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: "table", Usage: formatUsage},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "display only container IDs"},
		},
		Before:       arguments(0, 0),
		OnUsageError: badFlag,
		Action:       list,
	}
}

func list(c *cli.Context) error {
	all, err := reader(c).List()
	if errors.Is(err, fs.ErrNotExist) && !c.IsSet("root") {
		err = nil // no container yet
	}
	for i := range all {
		all[i].Owner = owner(all[i].UID)
	}
	return errors.Join(printList(c, all), err)
}

func printList(c *cli.Context, all []container.Info) error {
	if c.Bool("quiet") {
		for _, i := range all {
			fmt.Fprintln(c.App.Writer, i.ID)
		}
		return nil
	}
	switch c.String("format") {
	case "table":
		return writeTable(c.App.Writer, all)
	case "json":
		return json.NewEncoder(c.App.Writer).Encode(all)
	}
	return errors.New("invalid format option")
}

func writeTable(out io.Writer, all []container.Info) error {
	w := tabwriter.NewWriter(out, 12, 1, 3, ' ', 0)
	fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, i := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", i.ID, i.PID, i.Status, i.Bundle, i.Created.Format(time.RFC3339Nano), i.Owner)
	}
	return w.Flush()
}

func owner(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return "#" + number
}
