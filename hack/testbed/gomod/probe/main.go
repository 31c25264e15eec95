// Probe is what the tests of the node run in pods: it serves, asks, and fills a volume.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: probe serve ADDRESS | get URL | write FILE MEBIBYTES | sleep SECONDS"))
	}
	switch os.Args[1] {
	case "serve":
		fail(http.ListenAndServe(os.Args[2], http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
			name, _ := os.Hostname()
			fmt.Fprintln(answer, name)
		})))
	case "get":
		get(os.Args[2])
	case "write":
		write(os.Args[2], number(os.Args[3]))
	case "sleep":
		time.Sleep(time.Duration(number(os.Args[2])) * time.Second)
	}
}

func get(url string) {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(url)
	// A new endpoint is in the rules of kube-proxy some time after it is Ready.
	for until := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(until); {
		time.Sleep(100 * time.Millisecond)
		answer, err = client.Get(url)
	}
	if err != nil {
		fail(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		fail(err)
	}
}

func write(path string, mebibytes int) {
	file, err := os.Create(path)
	if err != nil {
		fail(err)
	}
	block := make([]byte, 1<<20)
	for written := 0; written < mebibytes; written++ {
		if _, err := file.Write(block); err != nil {
			fail(fmt.Errorf("after %d MiB: %w", written, err))
		}
	}
	fmt.Printf("wrote %d MiB\n", mebibytes)
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fail(err)
	}
	return value
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
