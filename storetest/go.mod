module github.com/roam-web/roam/storetest

go 1.26.0

require github.com/roam-web/roam v0.0.0

require github.com/anishathalye/porcupine v1.3.1
