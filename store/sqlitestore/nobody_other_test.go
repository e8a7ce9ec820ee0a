//go:build !linux

package sqlitestore

import "testing"

const nobody = -1

func asNobody(t *testing.T) (back func()) {
	t.Skip("root may write every file; see TestReadOnlyFileSystemIsTold")
	return func() {}
}
