package roam

import (
	"net/netip"
	"reflect"
	"sync/atomic"
	"time"
)

// A memo remembers what a record's data was decoded into. Copies of the record
// share it.
type memo struct{ value atomic.Pointer[any] }

// WithMemo returns the record with room for what its data is decoded into. A
// store that gives out the same record again and again, such as a cache, keeps
// one of these, and gives out copies of it: then the data is decoded once. The
// data of such a record must stay as it is.
func (r Record) WithMemo() Record {
	r.memo = new(memo)
	return r
}

// A sharing is how a decoded T can be given to several readers, none of whom
// may see what another one does to it.
type sharing int

const (
	decodeEach sharing = iota // by decoding it for each of them
	cloneEach                 // by its method Clone
	copyEach                  // by assignment, as it points to nothing
)

// Cloner is what a T with slices, maps or pointers can implement so that it
// need not be decoded for every reader of a cached record. Clone returns a
// value that shares nothing changeable with its receiver.
type Cloner[T any] interface{ Clone() T }

func sharingOf[T any]() sharing {
	if _, ok := any(new(T)).(Cloner[T]); ok {
		return cloneEach
	}
	if flat(reflect.TypeFor[T]()) {
		return copyEach
	}
	return decodeEach
}

// flat reports whether a copy of a value of this type shares nothing that can
// be changed with the original.
func flat(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[netip.Prefix]():
		return true // what these point to never changes
	}
	switch t.Kind() {
	case reflect.Array:
		return flat(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if !flat(f.Type) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return false
	}
	return true
}

// view decodes a record's data for somebody who only reads it, by its memo if
// it has one.
func (m *Manager[T]) view(rec *Record) (data T, err error) {
	if rec.memo != nil && m.sharing != decodeEach {
		if known := rec.memo.value.Load(); known != nil {
			if v, ok := (*known).(*T); ok { // else it is another program's T in the same store
				return m.copy(v), nil
			}
		}
	}
	v := new(T)
	if _, err := m.decode(rec, v); err != nil {
		return data, err
	}
	if rec.memo == nil || m.sharing == decodeEach {
		return *v, nil
	}
	known := any(v)
	rec.memo.value.Store(&known)
	return m.copy(v), nil
}

// copy makes a T that a reader can have of its own.
func (m *Manager[T]) copy(v *T) T {
	if m.sharing == cloneEach {
		return any(v).(Cloner[T]).Clone()
	}
	return *v
}
