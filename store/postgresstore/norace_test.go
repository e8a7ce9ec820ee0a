//go:build !race

package postgresstore

const raceEnabled = false
