module github.com/roam-web/roam/conformance

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/roam-web/roam v0.0.0
	github.com/roam-web/roam/internal/servers v0.0.0
	github.com/roam-web/roam/store/postgresstore v0.0.0
	github.com/roam-web/roam/store/sqlitestore v0.0.0
	github.com/roam-web/roam/storetest v0.0.0
)

require (
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	github.com/ncruces/go-sqlite3 v0.35.6 // indirect
	github.com/ncruces/go-sqlite3-wasm/v6 v6.3.35304 // indirect
	github.com/ncruces/julianday v1.0.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.41.0 // indirect
)
