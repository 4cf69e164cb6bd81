package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ModuleDir holds the modules in the initramfs, and ModuleOrder in it names them,
// one a line, in the order in which they are to be loaded.
const (
	ModuleDir   = "/modules"
	ModuleOrder = "order"
)

func loadModules() error {
	order, err := os.ReadFile(filepath.Join(ModuleDir, ModuleOrder))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		if err := loadModule(filepath.Join(ModuleDir, name)); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if err == unix.EEXIST {
		return nil
	}
	return err
}
