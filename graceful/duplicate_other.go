//go:build !unix

package graceful

import (
	"errors"
	"net"
	"os"
)

func duplicate(net.Listener) (*os.File, error) { return nil, errors.ErrUnsupported }
