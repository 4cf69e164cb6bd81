package qemu

import "testing"

func TestTSCFrequencyIsStable(t *testing.T) {
	first := tscFrequency()
	if first == 0 {
		t.Fatal("no frequency")
	}
	// A busy host may spoil any one measurement, but hardly most of them.
	near := 0
	for range 20 {
		if f := tscFrequency(); f > first-first/100 && f < first+first/100 {
			near++
		}
	}
	if near < 15 {
		t.Errorf("%d of 20 measurements within 1 %% of %d kHz", near, first)
	}
}
