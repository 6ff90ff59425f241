package capture

import (
	"net/url"
	"regexp"
	"strings"
)

const hidden = "xxxxx"

// userInfo finds the credentials of any URL in a text. The password may itself
// hold an @ or a / that should have been escaped, so the last @ before a blank or
// a quote counts: hiding too much is the lesser fault.
var userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^\s"'<>:/@]*):([^\s"'<>]*)@`)

// secretSetting finds password-like properties of pipelines and queries.
var secretSetting = regexp.MustCompile(`(?i)\b(user-pw|passw(?:or)?d|pwd|pass|token|secret|api_?key)=("[^"]*"|'[^']*'|[^\s&#!,;"']+)`)

// redactURI hides every password in text.
func redactURI(text string) string {
	text = userInfo.ReplaceAllString(text, "${1}${2}:"+hidden+"@")
	return secretSetting.ReplaceAllString(text, "${1}="+hidden)
}

// Redact hides the source's password, and whatever looks like one, in a text that
// others wrote: an error of a library, a line of a worker's output.
func (s Source) Redact(text string) string {
	return redactURI(scrub(text, s.URL))
}

// scrub replaces the password of uri wherever it stands in text, as written and
// unescaped.
func scrub(text, uri string) string {
	_, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return text
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return text
	}
	_, password, ok := strings.Cut(rest[:at], ":")
	if !ok || password == "" {
		return text
	}
	text = strings.ReplaceAll(text, password, hidden)
	if plain, err := url.PathUnescape(password); err == nil && plain != password && plain != "" {
		text = strings.ReplaceAll(text, plain, hidden)
	}
	return text
}
