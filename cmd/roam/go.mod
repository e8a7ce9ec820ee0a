module github.com/roam-web/roam/cmd/roam

go 1.26.0

require (
	github.com/roam-web/roam v0.0.0
	github.com/roam-web/roam/store/sqlitestore v0.0.0
)
