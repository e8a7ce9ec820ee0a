// Package conformance holds every store to the law of package storetest, and
// those that several processes can share to the same promises across
// processes, also when one of them is killed. It has tests only and is never
// released: so no store needs the others' drivers.
package conformance
