module github.com/roam-web/roam

go 1.26.0
