package lab

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/cavaliergopher/cpio"
	"github.com/microvm/microvm/tests/lab/guest"
)

// writeInitramfs writes the guest's init, its modules and their order to w.
func writeInitramfs(w io.Writer, init []byte, modules []module) error {
	archive := cpio.NewWriter(w)
	if err := addFile(archive, guest.InitPath, init, 0o755); err != nil {
		return err
	}
	if err := addDirectory(archive, guest.ModuleDir); err != nil {
		return err
	}
	var order strings.Builder
	for _, m := range modules {
		fmt.Fprintln(&order, m.name)
		if err := addFile(archive, path.Join(guest.ModuleDir, m.name), m.content, 0o644); err != nil {
			return err
		}
	}
	if err := addFile(archive, path.Join(guest.ModuleDir, guest.ModuleOrder), []byte(order.String()), 0o644); err != nil {
		return err
	}
	return archive.Close()
}

func addFile(archive *cpio.Writer, name string, content []byte, mode cpio.FileMode) error {
	header := &cpio.Header{
		Name:  strings.TrimPrefix(name, "/"),
		Mode:  cpio.TypeReg | mode,
		Links: 1,
		Size:  int64(len(content)),
	}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write header of %s: %w", name, err)
	}
	if _, err := archive.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func addDirectory(archive *cpio.Writer, name string) error {
	header := &cpio.Header{Name: strings.TrimPrefix(name, "/"), Mode: cpio.TypeDir | 0o755, Links: 2}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("write header of %s: %w", name, err)
	}
	return nil
}

// readInit reads the program that becomes the guest's init. It runs before there
// is any library, so it has to be statically linked.
func readInit(path string) ([]byte, error) {
	program, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read init %s: %w", path, err)
	}
	defer program.Close()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("read init %s: linked dynamically, build it with CGO_ENABLED=0", path)
		}
	}
	return os.ReadFile(path)
}
