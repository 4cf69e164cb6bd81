package iface

import (
	"fmt"
	"testing"
)

func TestMask(t *testing.T) {
	for bits, want := range map[int]string{0: "[0 0 0 0]", 1: "[128 0 0 0]", 20: "[255 255 240 0]", 30: "[255 255 255 252]", 32: "[255 255 255 255]"} {
		if got := fmt.Sprint(mask(bits)); got != want {
			t.Errorf("mask of %d bits: %s, want %s", bits, got, want)
		}
	}
}
