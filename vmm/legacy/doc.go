// Package legacy is the little of a PC that a kernel without firmware still
// asks for: a serial port to print on before it has a console, the keyboard
// controller's reset line, and a port that switches the machine off.
package legacy
