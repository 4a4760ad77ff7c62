package bmc

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
)

const root = "/redfish/v1"

type object = map[string]any

func link(path string) object { return object{"@odata.id": path} }

func links(paths ...string) object {
	members := []object{}
	for _, p := range paths {
		members = append(members, link(p))
	}
	return object{"Members": members, "Members@odata.count": len(members)}
}

// ServeHTTP implements http.Handler.
func (c *Controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.log = append(c.log, r.Method+" "+r.URL.Path)
	interrupt := c.interrupt
	c.mu.Unlock()
	if interrupt != nil && interrupt(w, r) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	w.Header().Set("OData-Version", "4.0")
	at := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	case at == "/redfish":
		answer(w, http.StatusOK, object{"v1": root + "/"})
		return
	case at == root:
		c.serviceRoot(w)
		return
	case at == root+"/SessionService/Sessions" && r.Method == http.MethodPost && !c.Habits.NoSessions:
		c.logIn(w, r)
		return
	}
	if !c.isLoggedIn(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="virtual controller"`)
		refuse(w, http.StatusUnauthorized, "NoValidSession", "there is no valid session, nor a right user name and password")
		return
	}
	c.resource(w, r, at)
}

func (c *Controller) serviceRoot(w http.ResponseWriter) {
	service := object{
		"@odata.id": root + "/", "@odata.type": "#ServiceRoot.v1_9_0.ServiceRoot", "Id": "RootService", "Name": "Root Service",
		"RedfishVersion": "1.11.0", "UUID": "92384634-2938-2342-8820-489239905423",
		"Systems": link(root + "/Systems"), "Links": object{},
	}
	if !c.Habits.NoSessions {
		service["SessionService"] = link(root + "/SessionService")
		service["Links"] = object{"Sessions": link(root + "/SessionService/Sessions")}
	}
	answer(w, http.StatusOK, service)
}

func (c *Controller) logIn(w http.ResponseWriter, r *http.Request) {
	var who struct{ UserName, Password string }
	if err := json.NewDecoder(r.Body).Decode(&who); err != nil {
		refuse(w, http.StatusBadRequest, "MalformedJSON", err.Error())
		return
	}
	if !c.knows(who.UserName, who.Password) {
		refuse(w, http.StatusUnauthorized, "ResourceAtUriUnauthorized", "the user name or password is wrong")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	most := c.Habits.MaxSessions
	if most == 0 {
		most = 4
	}
	if len(c.sessions) >= most {
		refuse(w, http.StatusServiceUnavailable, "SessionLimitExceeded", "too many sessions are open")
		return
	}
	c.opened++
	id, token := fmt.Sprint(c.opened), rand.Text()
	c.sessions[id] = token
	at := root + "/SessionService/Sessions/" + id
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", at)
	answer(w, http.StatusCreated, object{
		"@odata.id": at, "@odata.type": "#Session.v1_3_0.Session", "Id": id, "Name": "Session", "UserName": who.UserName,
	})
}

func (c *Controller) knows(username, password string) bool {
	return subtle.ConstantTimeCompare([]byte(username), []byte(c.Username)) == 1 &&
		subtle.ConstantTimeCompare([]byte(password), []byte(c.Password)) == 1
}

func (c *Controller) isLoggedIn(r *http.Request) bool {
	if username, password, ok := r.BasicAuth(); ok {
		return c.knows(username, password)
	}
	token := r.Header.Get("X-Auth-Token")
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.sessions {
		if subtle.ConstantTimeCompare([]byte(t), []byte(token)) == 1 {
			return true
		}
	}
	return false
}

// resource answers those who are logged in.
func (c *Controller) resource(w http.ResponseWriter, r *http.Request, at string) {
	sessions := root + "/SessionService/Sessions"
	switch {
	case at == root+"/SessionService" && r.Method == http.MethodGet:
		answer(w, http.StatusOK, object{
			"@odata.id": at, "@odata.type": "#SessionService.v1_1_8.SessionService", "Id": "SessionService", "Name": "Session Service",
			"ServiceEnabled": true, "SessionTimeout": 600, "Sessions": link(sessions),
		})
	case path.Dir(at) == sessions && r.Method == http.MethodDelete:
		c.mu.Lock()
		_, there := c.sessions[path.Base(at)]
		delete(c.sessions, path.Base(at))
		c.mu.Unlock()
		if !there {
			refuse(w, http.StatusNotFound, "ResourceMissingAtURI", "there is no such session")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case path.Dir(at) == sessions && r.Method == http.MethodGet:
		answer(w, http.StatusOK, object{"@odata.id": at, "@odata.type": "#Session.v1_3_0.Session", "Id": path.Base(at), "Name": "Session", "UserName": c.Username})
	case at == root+"/Systems" && r.Method == http.MethodGet:
		c.mu.Lock()
		ids := slices.Clone(c.order)
		c.mu.Unlock()
		for i, id := range ids {
			ids[i] = root + "/Systems/" + id
		}
		all := links(ids...)
		all["@odata.id"], all["@odata.type"], all["Name"] = at, "#ComputerSystemCollection.ComputerSystemCollection", "Computer System Collection"
		answer(w, http.StatusOK, all)
	case strings.HasPrefix(at, root+"/Systems/"):
		id, rest, _ := strings.Cut(strings.TrimPrefix(at, root+"/Systems/"), "/")
		c.mu.Lock()
		s := c.systems[id]
		c.mu.Unlock()
		if s == nil {
			refuse(w, http.StatusNotFound, "ResourceMissingAtURI", "there is no such system")
			return
		}
		c.ofSystem(w, r, s, rest)
	default:
		refuse(w, http.StatusNotFound, "ResourceMissingAtURI", "there is no such resource")
	}
}

func answer(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	data, err := json.Marshal(body)
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	_ = err // the client is gone
}

// refuse answers with an error in the form of DSP0266, "Error responses".
func refuse(w http.ResponseWriter, status int, id, message string) {
	answer(w, status, object{"error": object{
		"code": "Base.1.8.GeneralError", "message": message,
		"@Message.ExtendedInfo": []object{{"MessageId": "Base.1.8." + id, "Message": message, "Severity": "Critical", "Resolution": "None."}},
	}})
}

// Refuse answers a request with an error, for those who interrupt.
func Refuse(w http.ResponseWriter, status int, message string) {
	refuse(w, status, "GeneralError", message)
}

// Hang answers nothing and ends the connection.
func Hang(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

func strictly(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	return d.Decode(into)
}
