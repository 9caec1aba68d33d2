// Package dist holds what a distribution needs beside the program: systemd
// units, the parts of the Debian package, and the tests that they are right.
package dist
