//go:build race

package postgresstore

const raceEnabled = true
