package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// optionsFile has a runtime's options in a sandbox's bundle. containerd says them
// when it starts the shim, and not again.
const optionsFile = "options"

// SaveOptions keeps a runtime's options in the bundle dir.
func SaveOptions(dir string, options *anypb.Any) error {
	data, err := proto.Marshal(options)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, optionsFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save runtime's options: %w", err)
	}
	return nil
}

// loadOptions returns what was saved, or nil.
func loadOptions(dir string) (*anypb.Any, error) {
	data, err := os.ReadFile(filepath.Join(dir, optionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	options := new(anypb.Any)
	if err == nil {
		err = proto.Unmarshal(data, options)
	}
	if err != nil {
		return nil, fmt.Errorf("load runtime's options: %w", err)
	}
	return options, nil
}
