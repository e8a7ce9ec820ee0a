package conformance

import (
	"testing"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/storetest"
)

func openMemory(testing.TB) roam.Store { return roam.NewMemStore() }

func TestMemory(t *testing.T)      { storetest.Run(t, openMemory) }
func FuzzMemory(f *testing.F)      { storetest.Fuzz(f, openMemory) }
func BenchmarkMemory(b *testing.B) { storetest.Bench(b, openMemory) }
