module github.com/roam-web/roam/store/sqlitestore

go 1.26

require github.com/roam-web/roam v0.0.0
