package shop

import (
	"path/filepath"
	"sync"
	"testing"
)

// All servers of a farm start at once, on a file that is not there yet.
func TestServersThatStartAtOnceMakeOneOrdersDatabase(t *testing.T) {
	for range 30 {
		path := filepath.Join(t.TempDir(), "orders.db")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				o, err := openOrders(path)
				if err != nil {
					t.Error(err)
					return
				}
				if err := o.close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}
