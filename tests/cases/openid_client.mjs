// A device of the site as node's openid-client is one, as it comes: RFC 8414, 7591, 6749, 7523, 8693
// and 7009, for each kind of key, with a kid that the client has chosen.
//
// usage: node openid_client.mjs MODULES ISSUER BULK_TOKEN ROOT_PEM PACKAGE_URL
import assert from 'node:assert/strict'
import fs from 'node:fs'
import https from 'node:https'
import { pathToFileURL } from 'node:url'

const [modules, issuer, bulk, root, packageUrl] = process.argv.slice(2)
const load = (name) => import(pathToFileURL(`${modules}/${name}`))
const client = await load('openid-client/build/index.js')
const jose = await load('jose/dist/webapi/index.js')

// The site system's name leads to this machine, and its root is the one that is trusted.
const ca = fs.readFileSync(root)
const lookup = (_host, options, done) =>
  options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)
const fetch = (url, { body, headers, method } = {}) =>
  new Promise((resolve, reject) => {
    const request = https.request(url, { method, headers, ca, lookup, agent: false }, (answer) => {
      const chunks = []
      answer.on('data', (chunk) => chunks.push(chunk))
      answer.on('end', () => {
        const empty = [204, 304].includes(answer.statusCode)
        const body = empty ? null : Buffer.concat(chunks)
        resolve(new Response(body, { status: answer.statusCode, headers: answer.headers }))
      })
    })
    request.on('error', reject)
    request.end(body?.toString())
  })
const how = { algorithm: 'oauth2', [client.customFetch]: fetch }
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
const accessToken = 'urn:ietf:params:oauth:token-type:access_token'

for (const alg of ['ES256', 'RS256', 'PS256', 'ES384', 'Ed25519']) {
  const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true })
  const kid = `chosen-${alg}`
  const jwk = { ...(await jose.exportJWK(publicKey)), kid, alg, use: 'sig' }
  const config = await client.dynamicClientRegistration(
    new URL(issuer),
    {
      jwks: { keys: [jwk] },
      token_endpoint_auth_method: 'private_key_jwt',
      grant_types: ['client_credentials'],
      client_name: `openid-client ${alg}`,
    },
    client.PrivateKeyJwt({ key: privateKey, kid }),
    { ...how, initialAccessToken: bulk },
  )
  const id = config.clientMetadata().client_id
  assert.match(id, /^GUID:/)

  // Found anew, as a program does that is started again.
  const again = await client.discovery(
    new URL(issuer),
    id,
    {},
    client.PrivateKeyJwt({ key: privateKey, kid }),
    how,
  )
  const token = await client.clientCredentialsGrant(again)
  const content = await client.genericGrantRequest(again, exchange, {
    subject_token: token.access_token,
    subject_token_type: accessToken,
    scope: 'package:PS100001',
  })
  assert.equal(content.issued_token_type, accessToken)
  const authorization = `Bearer ${content.access_token}`
  const answer = await fetch(packageUrl, { headers: { authorization } })
  assert.equal(answer.status, 200)
  const targets = await client
    .genericGrantRequest(again, exchange, new URLSearchParams([
      ['subject_token', token.access_token],
      ['subject_token_type', accessToken],
      ['scope', 'content'],
      ['resource', 'https://dp01.contoso.com'],
      ['resource', 'https://dp02.contoso.com'],
    ]))
    .catch((error) => error)
  assert.equal(targets.error, 'invalid_target', targets)
  await client.tokenRevocation(again, token.access_token)

  // Somebody else's key: the library must see why, not only that it was challenged.
  const stranger = await jose.generateKeyPair(alg)
  const wrong = await client.discovery(
    new URL(issuer),
    id,
    {},
    client.PrivateKeyJwt({ key: stranger.privateKey, kid }),
    how,
  )
  const refused = await client.clientCredentialsGrant(wrong).catch((error) => error)
  assert.equal(refused.error, 'invalid_client', refused)
  assert.equal(refused.cause.code, 'assertion.signature')
  console.log(alg, id, answer.status)
}
