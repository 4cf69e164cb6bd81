// Package guestimage makes what a guest boots: the recipe of its kernel
// (kernel.config, built by the program build-kernel beside it) and its
// initramfs, which holds the agent and nothing else.
package guestimage
