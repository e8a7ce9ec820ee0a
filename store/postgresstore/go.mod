module github.com/roam-web/roam/store/postgresstore

go 1.26.0

require (
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	github.com/roam-web/roam v0.0.0
	github.com/roam-web/roam/internal/servers v0.0.0
	github.com/roam-web/roam/storetest v0.0.0
	golang.org/x/text v0.41.0 // indirect
)
