package farm

import "context"

// Drain gives a server no new requests and returns when those that it has are
// answered. If ctx ends before, the server goes on draining. A session is not
// moved anywhere: any server serves it.
func (f *Farm) Drain(ctx context.Context, name string) error {
	if _, err := f.find(name); err != nil {
		return err
	}
	if err := f.balancer.Drain(name); err != nil {
		return err
	}
	return f.balancer.Empty(ctx, name)
}

// Undrain gives a server requests again.
func (f *Farm) Undrain(name string) error {
	if _, err := f.find(name); err != nil {
		return err
	}
	return f.balancer.Undrain(name)
}
