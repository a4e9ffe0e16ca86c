module airdock.dev/lab/apps

go 1.26.0
