// Command initramfs packs the agent into the initramfs that guests boot.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/microvm/microvm/rootfs/guestimage"
)

func main() {
	agent := flag.String("agent", "", "statically linked `program` that becomes /init")
	output := flag.String("o", "initramfs.cpio", "`file` to write")
	flag.Parse()
	if *agent == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := pack(*agent, *output); err != nil {
		fmt.Fprintln(os.Stderr, "initramfs:", err)
		os.Exit(1)
	}
}

// pack writes the image beside its final name first, so that nobody boots half
// of it.
func pack(agent, output string) error {
	source, err := os.Open(agent)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	image, err := os.CreateTemp(filepath.Dir(output), ".initramfs-*")
	if err != nil {
		return err
	}
	defer os.Remove(image.Name())
	if err := guestimage.WriteInitramfs(image, source, info.Size()); err != nil {
		image.Close()
		return fmt.Errorf("pack %s: %w", agent, err)
	}
	if err := image.Chmod(0o644); err != nil {
		image.Close()
		return err
	}
	if err := image.Close(); err != nil {
		return err
	}
	return os.Rename(image.Name(), output)
}
