//go:build !unix || solaris || aix

package farm

// lockFile trusts the user not to run two farms in one folder: a farm needs to
// pass on sockets and cannot run on this system anyhow.
func lockFile(string) (unlock func(), err error) { return func() {}, nil }
