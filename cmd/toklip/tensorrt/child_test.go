package tensorrt

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/toklip/toklip/trt"
)

// shell is a building process whose part a script plays.
func shell(script string) Process {
	return Process{Path: "/bin/sh", Args: []string{"builder", "-c", script}}
}

func TestProcess(t *testing.T) {
	for _, tt := range []struct {
		name, script, want string
		code               trt.Code
	}{
		{"built", `echo '{"progress":{"step":"a","done":0.5}}'; echo '{"built":[{"role":"encoder","id":"x"}]}'`, "", 0},
		{"failed", `echo '{"failed":{"code":10,"message":"no such operator"}}'; exit 1`, "no such operator", trt.ErrBadModel},
		{"crashed", `echo 'terminate called' >&2; kill -SEGV $$`, "the building process ended with signal: segmentation fault", 0},
		{"last words", `echo 'first line' >&2; echo 'second line' >&2; exit 3`, "exit status 3; its last words: first line | second line", 0},
		{"garbage", `echo nonsense; exit 0`, `builder wrote "nonsense"`, 0},
		{"silent", `exit 0`, "without saying what it built", 0},
		{"endless line", `head -c 3000000 /dev/zero | tr '\0' x; exit 0`, "token too long", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seen []Progress
			built, err := shell(tt.script).Run(t.Context(), func(p Progress) { seen = append(seen, p) })
			if tt.want == "" {
				if err != nil || len(built) != 1 || built[0].ID != "x" || len(seen) != 1 || seen[0].Done != 0.5 {
					t.Fatalf("built %v, progress %v, %v", built, seen, err)
				}
				return
			}
			var failed *BuildError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), tt.want) || failed.Code != tt.code {
				t.Errorf("got %v, want %q, code %d", err, tt.want, tt.code)
			}
			if tt.code != 0 && !errors.Is(err, tt.code) {
				t.Errorf("%v does not wrap its code", err)
			}
		})
	}
}

// A process that does not listen is killed soon, and its own children, which hold its output, are not waited for.
func TestProcessIsEnded(t *testing.T) {
	for name, script := range map[string]string{
		"at once":    `echo $$ > "$0.pid"; exec sleep 60`,
		"deaf":       `trap '' TERM; echo $$ > "$0.pid"; while :; do sleep 0.1; done`,
		"with child": `sleep 60 & echo $$ > "$0.pid"; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "builder")
			ctx, cancel := context.WithCancelCause(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := Process{Path: "/bin/sh", Args: []string{"sh", "-c", script, file}}.Run(ctx, nil)
				ended <- err
			}()
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if text, err := os.ReadFile(file + ".pid"); err == nil && len(text) > 1 {
					break
				}
				if time.Now().After(end) {
					t.Fatal("it does not start")
				}
			}
			cause := errors.New("enough")
			begun := time.Now()
			cancel(cause)
			err := <-ended
			if took := time.Since(begun); took > 2*time.Second || !errors.Is(err, cause) {
				t.Errorf("ended after %v with %v", took, err)
			}
			pid, err := os.ReadFile(file + ".pid")
			if err != nil {
				t.Fatal(err)
			}
			if exec.Command("kill", "-0", strings.TrimSpace(string(pid))).Run() == nil {
				t.Error("it runs on")
			}
		})
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"progress":{"step":"building the encoder in fp16 (2 of 2)","phase":"x","done":0.25,"elapsed_ns":5,"left_ns":0}}`))
	f.Add([]byte(`{"built":[{"role":"tokenizer","precision":"fp16","id":"ab","size":1,"seconds":0.1}]}`))
	f.Add([]byte(`{"failed":{"code":10,"message":"m"}}`))
	f.Add([]byte(`{"progress":{"done":-1}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := ParseMessage(line)
		if err != nil {
			if !reflect.DeepEqual(m, Message{}) {
				t.Fatal("a message came with the error")
			}
			return
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseMessage(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if second, _ := json.Marshal(again); string(second) != string(text) {
			t.Fatalf("%s became %s", text, second)
		}
	})
}
