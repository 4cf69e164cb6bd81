package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

// spareParameter is the VMM's on the kernel's command line: the runs of
// addresses, "start-end" with commas between, at which there is memory that the
// kernel was not told of.
const spareParameter = "microvm.spare="

// Grow implements [api.MachineService].
func (*Machine) Grow(_ context.Context, req *api.GrowRequest) (*api.GrowResponse, error) {
	err := growMemory("/sys/devices/system/memory", req.GetMemory())
	if err == nil {
		err = startCPUs("/sys/devices/system/cpu", int(req.GetCpus()))
	}
	if errors.Is(err, errNoMore) {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &api.GrowResponse{}, nil
}

var errNoMore = errors.New("the machine has no more")

// growMemory has the kernel use so many bytes of the spare memory. dir is the
// kernel's of memory blocks.
func growMemory(dir string, want uint64) error {
	if want == 0 {
		return nil
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "block_size_bytes"))
	if err != nil {
		return fmt.Errorf("grow memory: the guest's kernel cannot: %w", err)
	}
	size, err := strconv.ParseUint(strings.TrimSpace(string(text)), 16, 64)
	if err != nil {
		return fmt.Errorf("size of memory blocks: %w", err)
	}
	blocks := spareBlocks(string(cmdline), size)
	need := (want-1)/size + 1
	if need > uint64(len(blocks)) {
		return fmt.Errorf("grow memory by %d MiB: %w than %d", want>>20, errNoMore, uint64(len(blocks))*size>>20)
	}
	for _, at := range blocks[:need] {
		if err := addBlock(dir, at, size); err != nil {
			return fmt.Errorf("add memory at %#x: %w", at, err)
		}
	}
	return nil
}

// spareBlocks are the addresses of the whole blocks of spare memory.
func spareBlocks(cmdline string, size uint64) (blocks []uint64) {
	for field := range strings.FieldsSeq(cmdline) {
		ranges, ok := strings.CutPrefix(field, spareParameter)
		if !ok {
			continue
		}
		for run := range strings.SplitSeq(ranges, ",") {
			first, last, _ := strings.Cut(run, "-")
			start, err1 := strconv.ParseUint(first, 0, 64)
			end, err2 := strconv.ParseUint(last, 0, 64)
			if err1 != nil || err2 != nil {
				continue
			}
			for at := (start + size - 1) / size * size; at+size <= end; at += size {
				blocks = append(blocks, at)
			}
		}
	}
	return blocks
}

// addBlock adds the block of memory at an address, unless it is there. The
// kernel takes it into use at once.
func addBlock(dir string, at, size uint64) error {
	if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("memory%d", at/size))); err == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "probe"), fmt.Appendf(nil, "%#x", at), 0)
}

// startCPUs starts processors until there are n. dir is the kernel's of them.
func startCPUs(dir string, n int) error {
	for i := 1; i < n; i++ { // the first always runs
		file := filepath.Join(dir, fmt.Sprintf("cpu%d", i), "online")
		on, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("start processor %d: %w than %d processors", i+1, errNoMore, i)
		}
		if err == nil && strings.TrimSpace(string(on)) != "1" {
			err = os.WriteFile(file, []byte("1"), 0)
		}
		if err != nil {
			return fmt.Errorf("start processor %d: %w", i+1, err)
		}
	}
	return nil
}
