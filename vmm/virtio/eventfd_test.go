package virtio

import "testing"

func TestEventFDStopUnblocksWait(t *testing.T) {
	e, err := NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	e.Ring()
	e.Ring()
	if !e.Wait() {
		t.Fatal("rung doorbell did not wake")
	}
	done := make(chan bool)
	go func() { done <- e.Wait() }()
	e.Stop()
	if <-done {
		t.Fatal("Wait returned true after Stop without a ring")
	}
	e.Restart()
	e.Ring()
	if !e.Wait() {
		t.Fatal("doorbell dead after Restart")
	}
}
