package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// MemoryDir is where the guest has file systems in memory that containers of a pod
// share. Below it, a source of a container's mounts is the name of one and a
// directory in it, which are made if they are not there; the mount has a [Memory].
const MemoryDir = "/run/microvm/memory"

// Memory is how a file system in memory is made, and a directory in it.
type Memory struct {
	Size      uint64 // bytes
	Root, Dir Owner  // Dir is also for those on the way to it
}

// Owner is whose a directory is, and who may use it how.
type Owner struct{ Mode, UID, GID uint32 }

const optionMemory = "x-microvm.memory="

// Put gives it to a mount of a container.
func (m Memory) Put(to *specs.Mount) error {
	text, err := json.Marshal(m)
	if err == nil {
		to.Options = append(slices.Clone(to.Options), optionMemory+string(text))
	}
	return err
}

// TakeMemory takes it from a mount that has one.
func TakeMemory(from *specs.Mount) (m Memory, err error) {
	i := slices.IndexFunc(from.Options, func(o string) bool { return strings.HasPrefix(o, optionMemory) })
	if i < 0 {
		return m, fmt.Errorf("mount of %s does not say how it is made", from.Source)
	}
	err = json.Unmarshal([]byte(strings.TrimPrefix(from.Options[i], optionMemory)), &m)
	from.Options = slices.Delete(slices.Clone(from.Options), i, i+1)
	return m, err
}
