module github.com/roam-web/roam/conformance

go 1.26.0

require (
	github.com/roam-web/roam v0.0.0
	github.com/roam-web/roam/store/sqlitestore v0.0.0
	github.com/roam-web/roam/storetest v0.0.0
)
