// copy downloads a body the way Forklift's populators do: one request, io.Copy with its own buffer, through
// the page cache. With -fsync the bytes are durable at the end; Forklift's populators do not ask for that.
//
//	X_AUTH_TOKEN=... copy [-fsync] [-ca FILE] URL TARGET
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
)

// counting stands for the reader by which Forklift reports progress; it keeps io.Copy from any short cut.
type counting struct {
	io.Reader
	total int64
}

func (reader *counting) Read(buffer []byte) (int, error) {
	n, err := reader.Reader.Read(buffer)
	reader.total += int64(n)
	return n, err
}

func main() {
	fsync := flag.Bool("fsync", false, "sync the target at the end")
	authority := flag.String("ca", "", "`file` of certificates that the server's is checked against")
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	if err := copyBody(flag.Arg(0), flag.Arg(1), *authority, *fsync); err != nil {
		fmt.Fprintln(os.Stderr, "copy:", err)
		os.Exit(1)
	}
}

func copyBody(url, target, authority string, fsync bool) error {
	pem, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate", authority)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-Auth-Token", os.Getenv("X_AUTH_TOKEN"))
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("unexpected answer: %s", answer.Status)
	}
	file, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	body := &counting{Reader: answer.Body}
	if _, err := io.Copy(file, body); err != nil {
		return err
	}
	if answer.ContentLength >= 0 && body.total != answer.ContentLength {
		return fmt.Errorf("%d bytes in place of %d", body.total, answer.ContentLength)
	}
	if fsync {
		if err := file.Sync(); err != nil {
			return err
		}
	}
	return file.Close()
}
