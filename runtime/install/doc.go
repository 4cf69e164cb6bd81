// Package install puts the runtime's files in place, tells containerd, docker and
// podman of it, and can undo all of that.
//
// [Prepare] only reads: it makes a plan, or fails when it does not understand a
// configuration. [Plan.Apply] writes; nothing is left when it fails. What was
// there before is kept beside the installed files with a record of what was
// done, from which [Remove] restores it.
package install
